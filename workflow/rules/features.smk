FEATURES = Planned("data/{data}/features/{visual}.parquet")


rule features:
    input:
        FEATURES.inputs,
    output:
        "data/{data}/features/{visual}.parquet",
        "data/{data}/features/{visual}.rejected.parquet",
    log:
        "logs/features/{data}/{visual}.log",
    benchmark:
        "logs/features/{data}/{visual}.tsv"
    conda:
        "../../environment.yml"
    threads: FEATURES.threads
    resources:
        mem_mb=2000,
        runtime=240,
        gpu=0,
    params:
        job=FEATURES.arguments,
        digest=FEATURES.digest,
    shell:
        "ccr features {params.job} 2>&1 | tee {log:q}"
