TEACHER = Planned(
    "results/teachers/{data}/{mt}/{langs}/{teacher}/seed{seed}",
    "logs/train/teachers/{data}/{mt}/{langs}/{teacher}/seed{seed}",
)
STUDENT = Planned(
    "results/runs/{data}/{mt}/{visual}/{langs}/{method}/seed{seed}",
    "logs/train/runs/{data}/{mt}/{visual}/{langs}/{method}/seed{seed}",
)
STATES = Planned("work/states/{data}/{encoder}/{texts}.parquet", "logs/train/states/{data}/{encoder}/{texts}")


# states of texts after a named encoder's frozen layers (frozen_prefix: cached), for all training runs and evaluations
rule states:
    input:
        STATES.inputs,
    output:
        "work/states/{data}/{encoder}/{texts}.parquet",
        "work/states/{data}/{encoder}/{texts}.seal.json",
    log:
        STATES.log,
    benchmark:
        STATES.benchmark
    conda:
        "../../environment.yml"
    threads: STATES.threads
    resources:
        mem_mb=growing(8000),
        runtime=growing(720),
        gpu=STATES.gpus,
    params:
        job=STATES.arguments,
        aside=aside,
    shell:
        "ccr train {params.job} 2>&1 | tee {log:q} {params.aside}"


# SLURM sends SIGTERM before it kills a job: `ccr` obeys it, the shell waits for `ccr`, and `tee` for its last output.
# `train.processes` processes share a training run, with a GPU and memory for each.
rule teacher:
    input:
        TEACHER.inputs,
    output:
        multiext(
            "results/teachers/{data}/{mt}/{langs}/{teacher}/seed{seed}/",
            "model.safetensors",
            "config.json",
            "tokenizer.json",
            "history.csv",
            "embeddings.parquet",
            "provenance.json",
            "seal.json",
        ),
    log:
        TEACHER.log,
    benchmark:
        TEACHER.benchmark
    conda:
        "../../environment.yml"
    threads: TEACHER.threads
    resources:
        mem_mb=growing(8000, TEACHER.gpus),
        runtime=growing(720),
        gpu=TEACHER.gpus,
    params:
        job=TEACHER.arguments,
        aside=aside,
    shell:
        "trap : TERM; ccr train {params.job} 2>&1 | (trap '' TERM; tee {log:q} {params.aside})"


rule student:
    input:
        STUDENT.inputs,
    output:
        multiext(
            "results/runs/{data}/{mt}/{visual}/{langs}/{method}/seed{seed}/",
            "model.safetensors",
            "config.json",
            "tokenizer.json",
            "history.csv",
            "provenance.json",
            "seal.json",
        ),
    log:
        STUDENT.log,
    benchmark:
        STUDENT.benchmark
    conda:
        "../../environment.yml"
    threads: STUDENT.threads
    resources:
        mem_mb=growing(8000, STUDENT.gpus),
        runtime=growing(720),
        gpu=STUDENT.gpus,
    params:
        job=STUDENT.arguments,
        aside=aside,
    shell:
        "trap : TERM; ccr train {params.job} 2>&1 | (trap '' TERM; tee {log:q} {params.aside})"
