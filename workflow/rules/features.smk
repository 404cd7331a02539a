FEATURES = Planned("data/{data}/features/{visual}.parquet", "logs/features/{data}/{visual}")
FEATURES_SHARD = Planned(
    "work/features/shards/{data}/{visual}/{shard}.parquet", "logs/features/{data}/{visual}/{shard}"
)


rule features:
    input:
        FEATURES.inputs,
    output:
        "data/{data}/features/{visual}.parquet",
        "data/{data}/features/{visual}.rejected.parquet",
        "data/{data}/features/{visual}.seal.json",
    log:
        FEATURES.log,
    benchmark:
        FEATURES.benchmark
    priority: 1  # takes several cores, which one-core jobs would not leave free
    conda:
        "../../environment.yml"
    threads: FEATURES.threads
    resources:
        mem_mb=growing(8000),
        runtime=growing(720),
        gpu=FEATURES.gpus,
    params:
        job=FEATURES.arguments,
        aside=aside,
    shell:
        "ccr features {params.job} 2>&1 | tee {log:q} {params.aside}"


# scatter: part of the items of an extractor that computes features (features.shards); rule features gathers
rule features_shard:
    input:
        FEATURES_SHARD.inputs,
    output:
        "work/features/shards/{data}/{visual}/{shard}.parquet",
        "work/features/shards/{data}/{visual}/{shard}.seal.json",
    log:
        FEATURES_SHARD.log,
    benchmark:
        FEATURES_SHARD.benchmark
    priority: 1  # takes several cores, which one-core jobs would not leave free
    conda:
        "../../environment.yml"
    threads: FEATURES_SHARD.threads
    resources:
        mem_mb=growing(8000),
        runtime=growing(720),
        gpu=FEATURES_SHARD.gpus,
    params:
        job=FEATURES_SHARD.arguments,
        aside=aside,
    shell:
        "ccr features {params.job} 2>&1 | tee {log:q} {params.aside}"
