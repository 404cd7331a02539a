TRANSLATION = Planned(
    "data/{data}/translations/{mt}/{lang}{direction}.parquet", "logs/translate/{data}/{mt}/{lang}{direction}"
)
SHARD = Planned(
    "work/tm/shards/{data}/{mt}/{lang}{direction}/{shard}.parquet",
    "logs/translate/{data}/{mt}/{lang}{direction}/{shard}",
)
QUALITY = Planned("data/{data}/translations/{mt}/{lang}.quality.json", "logs/translate/{data}/{mt}/{lang}.quality")


# direction: empty (forward), .back or .queries; a forward job may also write an alignment or weights, which the
# translations represent
rule translate:
    input:
        TRANSLATION.inputs,
    output:
        "data/{data}/translations/{mt}/{lang}{direction}.parquet",
        "data/{data}/translations/{mt}/{lang}{direction}.seal.json",
    log:
        TRANSLATION.log,
    benchmark:
        TRANSLATION.benchmark
    conda:
        "../../environment.yml"
    threads: TRANSLATION.threads
    resources:
        mem_mb=growing(8000),
        runtime=growing(720),
        gpu=TRANSLATION.gpus,
    params:
        job=TRANSLATION.arguments,
        aside=aside,
    shell:
        "ccr translate {params.job} 2>&1 | tee {log:q} {params.aside}"


# scatter: part of the sentences of an expensive engine (translate.shards); rule translate gathers
rule translate_shard:
    input:
        SHARD.inputs,
    output:
        "work/tm/shards/{data}/{mt}/{lang}{direction}/{shard}.parquet",
        "work/tm/shards/{data}/{mt}/{lang}{direction}/{shard}.seal.json",
    log:
        SHARD.log,
    benchmark:
        SHARD.benchmark
    conda:
        "../../environment.yml"
    threads: SHARD.threads
    resources:
        mem_mb=growing(8000),
        runtime=growing(720),
        gpu=SHARD.gpus,
    params:
        job=SHARD.arguments,
        aside=aside,
    shell:
        "ccr translate {params.job} 2>&1 | tee {log:q} {params.aside}"


# the quality of translations
rule quality:
    input:
        QUALITY.inputs,
    output:
        "data/{data}/translations/{mt}/{lang}.quality.json",
        "data/{data}/translations/{mt}/{lang}.quality.seal.json",
    log:
        QUALITY.log,
    benchmark:
        QUALITY.benchmark
    conda:
        "../../environment.yml"
    threads: QUALITY.threads
    resources:
        mem_mb=growing(2000),
        runtime=growing(60),
        gpu=QUALITY.gpus,
    params:
        job=QUALITY.arguments,
        aside=aside,
    shell:
        "ccr translate {params.job} 2>&1 | tee {log:q} {params.aside}"
