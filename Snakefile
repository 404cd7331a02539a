# Targets: the tables under `run` in params.yaml (default), results/{table}.csv, paper (every table of the papers).


include: "workflow/rules/common.smk"


localrules:
    all,
    paper,


rule all:
    input:
        [f"results/{table}.csv" for table in PLAN.run],


rule paper:
    input:
        [f"results/{table}.csv" for table in PLAN.papers],


include: "workflow/rules/captions.smk"
include: "workflow/rules/translate.smk"
include: "workflow/rules/features.smk"
include: "workflow/rules/train.smk"
include: "workflow/rules/evaluate.smk"
include: "workflow/rules/tables.smk"
