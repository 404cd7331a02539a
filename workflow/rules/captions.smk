WORLD = Planned("data/raw/{data}", "logs/captions/{data}/world")
CAPTIONS = Planned("data/{data}/captions.parquet", "logs/captions/{data}/captions")
PARALLEL = Planned("data/{data}/parallel/{parallel}/{lang}.parquet", "logs/captions/{data}/parallel/{parallel}/{lang}")


# the mini-world publishes raw data; its manifest names every file and is written last
rule world:
    input:
        WORLD.inputs,
    output:
        "data/raw/{data}/manifest.json",
    log:
        WORLD.log,
    benchmark:
        WORLD.benchmark
    priority: 1  # takes several cores, which one-core jobs would not leave free
    conda:
        "../../environment.yml"
    threads: WORLD.threads
    resources:
        mem_mb=growing(1000),
        runtime=growing(30),
        gpu=WORLD.gpus,
    params:
        job=WORLD.arguments,
        aside=aside,
    shell:
        "ccr world {params.job} 2>&1 | tee {log:q} {params.aside}"


rule captions:
    input:
        CAPTIONS.inputs,
    output:
        "data/{data}/captions.parquet",
        "data/{data}/items.parquet",
        "data/{data}/captions.report.json",
        "data/{data}/captions.seal.json",
    log:
        CAPTIONS.log,
    benchmark:
        CAPTIONS.benchmark
    priority: 1  # takes several cores, which one-core jobs would not leave free
    conda:
        "../../environment.yml"
    threads: CAPTIONS.threads
    resources:
        mem_mb=growing(2000),
        runtime=growing(30),
        gpu=CAPTIONS.gpus,
    params:
        job=CAPTIONS.arguments,
        aside=aside,
    shell:
        "ccr captions {params.job} 2>&1 | tee {log:q} {params.aside}"


# sentence pairs without pictures, for CL teachers
rule parallel:
    input:
        PARALLEL.inputs,
    output:
        "data/{data}/parallel/{parallel}/{lang}.parquet",
        "data/{data}/parallel/{parallel}/{lang}.rejected.parquet",
        "data/{data}/parallel/{parallel}/{lang}.seal.json",
    log:
        PARALLEL.log,
    benchmark:
        PARALLEL.benchmark
    conda:
        "../../environment.yml"
    threads: PARALLEL.threads
    resources:
        mem_mb=growing(2000),
        runtime=growing(30),
        gpu=PARALLEL.gpus,
    params:
        job=PARALLEL.arguments,
        aside=aside,
    shell:
        "ccr captions {params.job} 2>&1 | tee {log:q} {params.aside}"
