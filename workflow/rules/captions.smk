WORLD = Planned("data/raw/{data}")
CAPTIONS = Planned("data/{data}/captions.parquet")
PARALLEL = Planned("data/{data}/parallel/{parallel}/{lang}.parquet")


# the mini-world publishes raw data; its manifest names every file and is written last
rule world:
    input:
        WORLD.inputs,
    output:
        "data/raw/{data}/manifest.json",
    log:
        "logs/captions/{data}/world.log",
    benchmark:
        "logs/captions/{data}/world.tsv"
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
        "logs/captions/{data}/captions.log",
    benchmark:
        "logs/captions/{data}/captions.tsv"
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
        "logs/captions/{data}/parallel/{parallel}/{lang}.log",
    benchmark:
        "logs/captions/{data}/parallel/{parallel}/{lang}.tsv"
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
