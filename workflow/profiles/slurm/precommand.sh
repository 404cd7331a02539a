# What every command of a SLURM job does first, in the shell that goes on with it.

# SIGTERM ends neither the script of a job nor, with it, at once all that it runs
trap : TERM

# The executor sends every task of an array with the first one's command, and the others' in an option of it. That command
# would also look for the first one's files when it is done (its issue 447), so each task becomes its own command instead.
if [ -f "$0" ] && grep -q -- --slurm-jobstep-array-execs "$0"; then
    task=$(python workflow/profiles/slurm/array_task.py "$0" "$SLURM_ARRAY_TASK_ID") || exit
    exec sh -c "$task"
fi
