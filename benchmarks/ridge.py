"""The bar for a dual encoder: ridge regression from photo features to TF-IDF of the captions.

Trained on the machine translations of the train captions and tested on the human captions of the test split, with the
same data, features and queries as the table's `baseline` row. The ridge penalty and the n-grams are chosen on the
validation split. Run it after the table:

    make results/flickr8k_table.csv
    .venv/bin/python benchmarks/ridge.py flickr8k_table flickr8k
"""

import sys

import numpy as np
import pandas as pd
from scipy.sparse import csr_matrix, diags
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import Ridge

from ccr import params
from ccr.artifacts.files import read_json
from ccr.artifacts.parquet import read_parquet
from ccr.artifacts.schemas import CAPTIONS
from ccr.retrieval.ranks import rank
from ccr.store import open_features

ALPHAS = (0.1, 1.0, 10.0)
NGRAMS = ((1, 1), (1, 2))


def captions(path: str, **values: str) -> pd.DataFrame:
    """The captions of a file whose columns have these values."""
    table = read_parquet(path, CAPTIONS).to_pandas()
    return table[np.logical_and.reduce([(table[c].astype(str) == v).to_numpy() for c, v in values.items()])]


def unit(features: np.ndarray) -> np.ndarray:
    """Rows of length 1."""
    return features / np.linalg.norm(features, axis=1, keepdims=True)


def per_photo(texts: csr_matrix, photo: np.ndarray) -> np.ndarray:
    """Mean of the rows of each photo, dense."""
    member = csr_matrix((np.ones(len(photo)), (photo, np.arange(len(photo)))))
    return np.asarray((diags(1 / np.bincount(photo)) @ member @ texts).todense())


def recalls(text: np.ndarray, predicted: np.ndarray, photos: list[str], queries: pd.DataFrame) -> dict[str, float]:
    """Text-to-photo R@1, R@5, R@10 in percent, by the dot product of query and prediction."""
    photo = pd.Index(photos).get_indexer(queries["item_id"])
    first = rank(text, predicted, photo, np.arange(len(photos))).first
    return {f"R@{k}": round(100 * float(np.mean(first <= k)), 1) for k in (1, 5, 10)}


def main(table: str, dataset: str) -> None:
    """Print the ridge's recalls and those of the table's baseline."""
    plan = params.plan(params.load())
    rows = plan.job(f"results/{table}.csv").settings["rows"]
    row = next(row for row in rows if row["method"] == plan.params.tables[table].baseline and row["dataset"] == dataset)
    run = next(j for j in plan.needs(row["metrics"][0].rsplit("/", 1)[0]) if j.stage == "train")
    store = open_features(run.inputs["features"])
    train = captions(run.inputs["translations"][0], split="train")
    human = run.inputs["captions"]
    photos, photo = np.unique(train["item_id"].to_numpy(dtype=str), return_inverse=True)
    features = unit(store.rows(store.index(list(photos)))[0].astype(np.float64))

    def evaluate(split: str, vectorizer: TfidfVectorizer, ridge: Ridge) -> dict[str, float]:
        queries = captions(human, split=split, lang=row["target_lang"], origin="human")
        names = sorted(queries["item_id"].unique())
        predicted = ridge.predict(unit(store.rows(store.index(names))[0].astype(np.float64)))
        text = vectorizer.transform(queries["text"]).toarray()
        return recalls(text, unit(predicted), names, queries)

    best = (-1.0, None, None, None)
    for ngrams in NGRAMS:
        vectorizer = TfidfVectorizer(analyzer="char", ngram_range=ngrams, min_df=5)
        target = per_photo(vectorizer.fit_transform(train["text"]), photo)
        for alpha in ALPHAS:
            ridge = Ridge(alpha=alpha).fit(features, target)
            score = evaluate("val", vectorizer, ridge)["R@10"]
            print(f"val R@10 {score:5.1f}  (n-grams {ngrams}, alpha {alpha:g}, {target.shape[1]} terms)")
            best = max(best, (score, (ngrams, alpha), vectorizer, ridge), key=lambda b: b[0])
    _, chosen, vectorizer, ridge = best
    print(f"\ntest, text to photo, {dataset}, {row['mt']} translations, human {row['target_lang']} queries")
    print(f"ridge {chosen}: ", evaluate("test", vectorizer, ridge))
    values = [read_json(path) for path in row["metrics"]]
    print(
        "baseline:         ", {f"R@{k}": round(float(np.mean([v[f"t2v_r{k}"] for v in values])), 1) for k in (1, 5, 10)}
    )


if __name__ == "__main__":
    main(*sys.argv[1:])
