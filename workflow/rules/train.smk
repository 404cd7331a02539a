TEACHER = Planned("results/teachers/{data}/{mt}/{langs}/{teacher}/seed{seed}")
STUDENT = Planned("results/runs/{data}/{mt}/{visual}/{langs}/{method}/seed{seed}")


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
        ),
    log:
        "logs/train/teachers/{data}/{mt}/{langs}/{teacher}/seed{seed}.log",
    benchmark:
        "logs/train/teachers/{data}/{mt}/{langs}/{teacher}/seed{seed}.tsv"
    conda:
        "../../environment.yml"
    threads: TEACHER.threads
    resources:
        mem_mb=2000,
        runtime=720,
        gpu=TEACHER.processes,
    params:
        job=TEACHER.arguments,
        digest=TEACHER.digest,
    shell:
        "ccr train {params.job} 2>&1 | tee {log:q}"


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
        ),
    log:
        "logs/train/runs/{data}/{mt}/{visual}/{langs}/{method}/seed{seed}.log",
    benchmark:
        "logs/train/runs/{data}/{mt}/{visual}/{langs}/{method}/seed{seed}.tsv"
    conda:
        "../../environment.yml"
    threads: STUDENT.threads
    resources:
        mem_mb=2000,
        runtime=720,
        gpu=STUDENT.processes,
    params:
        job=STUDENT.arguments,
        digest=STUDENT.digest,
    shell:
        "ccr train {params.job} 2>&1 | tee {log:q}"
