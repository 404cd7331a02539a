TRANSLATION = Planned("data/{data}/translations/{mt}/{lang}{direction}.parquet")


# direction: nothing (forward), .back or .queries; the lexicon engine's forward job also writes an alignment, for which
# the translations stand
rule translate:
    input:
        TRANSLATION.inputs,
    output:
        "data/{data}/translations/{mt}/{lang}{direction}.parquet",
    log:
        "logs/translate/{data}/{mt}/{lang}{direction}.log",
    benchmark:
        "logs/translate/{data}/{mt}/{lang}{direction}.tsv"
    conda:
        "../../environment.yml"
    threads: TRANSLATION.threads
    resources:
        mem_mb=2000,
        runtime=240,
        gpu=0,
    params:
        job=TRANSLATION.arguments,
        digest=TRANSLATION.digest,
    shell:
        "ccr translate {params.job} 2>&1 | tee {log:q}"
