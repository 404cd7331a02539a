EVALUATION = Planned(
    "results/evaluations/{data}/{mt}/{visual}/{lang}/{method}/seed{seed}",
    "logs/evaluate/{data}/{mt}/{visual}/{lang}/{method}/seed{seed}",
)
ALIGNMENT = Planned(
    "results/alignments/{data}/{mt}/{lang}/{teacher}/seed{seed}",
    "logs/evaluate/alignments/{data}/{mt}/{lang}/{teacher}/seed{seed}",
)


rule evaluate:
    input:
        EVALUATION.inputs,
    output:
        multiext(
            "results/evaluations/{data}/{mt}/{visual}/{lang}/{method}/seed{seed}/",
            "metrics.json",
            "ranks.parquet",
            "seal.json",
        ),
    log:
        EVALUATION.log,
    benchmark:
        EVALUATION.benchmark
    conda:
        "../../environment.yml"
    threads: EVALUATION.threads
    resources:
        mem_mb=growing(4000),
        runtime=growing(60),
        gpu=EVALUATION.gpus,
    params:
        job=EVALUATION.arguments,
        aside=aside,
    shell:
        "ccr evaluate {params.job} 2>&1 | tee {log:q} {params.aside}"


# how well a teacher aligns words
rule alignment:
    input:
        ALIGNMENT.inputs,
    output:
        multiext(
            "results/alignments/{data}/{mt}/{lang}/{teacher}/seed{seed}/",
            "metrics.json",
            "seal.json",
        ),
    log:
        ALIGNMENT.log,
    benchmark:
        ALIGNMENT.benchmark
    conda:
        "../../environment.yml"
    threads: ALIGNMENT.threads
    resources:
        mem_mb=growing(4000),
        runtime=growing(60),
        gpu=ALIGNMENT.gpus,
    params:
        job=ALIGNMENT.arguments,
        aside=aside,
    shell:
        "ccr evaluate {params.job} 2>&1 | tee {log:q} {params.aside}"
