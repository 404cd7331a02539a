EVALUATION = Planned("results/evaluations/{data}/{mt}/{visual}/{lang}/{method}/seed{seed}")
ALIGNMENT = Planned("results/alignments/{data}/{mt}/{lang}/{teacher}/seed{seed}")


rule evaluate:
    input:
        EVALUATION.inputs,
    output:
        multiext(
            "results/evaluations/{data}/{mt}/{visual}/{lang}/{method}/seed{seed}/",
            "metrics.json",
            "ranks.parquet",
        ),
    log:
        "logs/evaluate/{data}/{mt}/{visual}/{lang}/{method}/seed{seed}.log",
    benchmark:
        "logs/evaluate/{data}/{mt}/{visual}/{lang}/{method}/seed{seed}.tsv"
    conda:
        "../../environment.yml"
    threads: EVALUATION.threads
    resources:
        mem_mb=2000,
        runtime=60,
        gpu=1,
    params:
        job=EVALUATION.arguments,
    shell:
        "ccr evaluate {params.job} 2>&1 | tee {log:q}"


# how well a teacher aligns words
rule alignment:
    input:
        ALIGNMENT.inputs,
    output:
        "results/alignments/{data}/{mt}/{lang}/{teacher}/seed{seed}/metrics.json",
    log:
        "logs/evaluate/alignments/{data}/{mt}/{lang}/{teacher}/seed{seed}.log",
    benchmark:
        "logs/evaluate/alignments/{data}/{mt}/{lang}/{teacher}/seed{seed}.tsv"
    conda:
        "../../environment.yml"
    threads: ALIGNMENT.threads
    resources:
        mem_mb=2000,
        runtime=60,
        gpu=1,
    params:
        job=ALIGNMENT.arguments,
    shell:
        "ccr evaluate {params.job} 2>&1 | tee {log:q}"
