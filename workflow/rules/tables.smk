TABLE = Planned("results/{table}.csv", "logs/tables/{table}")


ruleorder: alignments > translations > tables


rule tables:
    input:
        TABLE.inputs,
    output:
        multiext("results/{table}", ".csv", ".json", ".md", ".tex", ".seal.json"),
        multiext("results/figures/{table}/training_curves", ".pdf", ".svg"),
        multiext("results/figures/{table}/gradient_shares", ".pdf", ".svg"),
        multiext("results/figures/{table}/recall", ".pdf", ".svg"),
        multiext("results/figures/{table}/sumr", ".pdf", ".svg"),
        report(
            "results/figures/{table}/table.html",
            caption="../report/table.rst",
            category="Tables",
            labels={"table": "{table}"},
        ),
        report(
            "results/figures/{table}/training_curves.png",
            caption="../report/training_curves.rst",
            category="Figures",
            labels={"table": "{table}", "figure": "training curves"},
        ),
        report(
            "results/figures/{table}/gradient_shares.png",
            caption="../report/gradient_shares.rst",
            category="Figures",
            labels={"table": "{table}", "figure": "gradient shares"},
        ),
        report(
            "results/figures/{table}/recall.png",
            caption="../report/recall.rst",
            category="Figures",
            labels={"table": "{table}", "figure": "recall"},
        ),
        report(
            "results/figures/{table}/sumr.png",
            caption="../report/sumr.rst",
            category="Figures",
            labels={"table": "{table}", "figure": "SumR"},
        ),
    log:
        TABLE.log,
    benchmark:
        TABLE.benchmark
    conda:
        "../../environment.yml"
    threads: TABLE.threads
    resources:
        mem_mb=growing(1000),
        runtime=growing(30),
        gpu=TABLE.gpus,
    params:
        job=TABLE.arguments,
        aside=aside,
    shell:
        "ccr tables {params.job} 2>&1 | tee {log:q} {params.aside}"


# tables of word alignment
rule alignments:
    input:
        TABLE.inputs,
    output:
        multiext("results/{table}", ".csv", ".json", ".md", ".seal.json"),
        multiext("results/figures/{table}/aer", ".pdf", ".svg"),
        report(
            "results/figures/{table}/aer.png",
            caption="../report/aer.rst",
            category="Figures",
            labels={"table": "{table}", "figure": "alignment error rate"},
        ),
    log:
        TABLE.log,
    benchmark:
        TABLE.benchmark
    wildcard_constraints:
        table="|".join(map(re.escape, PLAN.params.alignments)) or "(?!)",
    conda:
        "../../environment.yml"
    threads: TABLE.threads
    resources:
        mem_mb=growing(1000),
        runtime=growing(30),
        gpu=TABLE.gpus,
    params:
        job=TABLE.arguments,
        aside=aside,
    shell:
        "ccr tables {params.job} 2>&1 | tee {log:q} {params.aside}"


# tables of translation quality
rule translations:
    input:
        TABLE.inputs,
    output:
        multiext("results/{table}", ".csv", ".json", ".md", ".seal.json"),
        multiext("results/figures/{table}/translation", ".pdf", ".svg"),
        report(
            "results/figures/{table}/table.html",
            caption="../report/translation_table.rst",
            category="Tables",
            labels={"table": "{table}"},
        ),
        report(
            "results/figures/{table}/translation.png",
            caption="../report/translation.rst",
            category="Figures",
            labels={"table": "{table}", "figure": "translation quality"},
        ),
    log:
        TABLE.log,
    benchmark:
        TABLE.benchmark
    wildcard_constraints:
        table="|".join(map(re.escape, PLAN.params.translations)) or "(?!)",
    conda:
        "../../environment.yml"
    threads: TABLE.threads
    resources:
        mem_mb=growing(1000),
        runtime=growing(30),
        gpu=TABLE.gpus,
    params:
        job=TABLE.arguments,
        aside=aside,
    shell:
        "ccr tables {params.job} 2>&1 | tee {log:q} {params.aside}"
