"""Everyday bodies of libraries give the same in a process of their own and in one that has run the same body before."""

from __future__ import annotations

import re

import pytest

from lambdakernel.parallel import handover
from lambdakernel.parallel.attempts import Attempts

SETUP = """
import random
import numpy as np, pandas as pd, scipy.stats, scipy.optimize, scipy.sparse.linalg, scipy.spatial.distance
import scipy.interpolate, scipy.signal, scipy.integrate, sklearn
from sklearn import cluster, datasets, decomposition, ensemble, feature_selection, impute, linear_model, metrics
from sklearn import model_selection, naive_bayes, neighbors, pipeline, preprocessing, svm, tree
from sklearn.compose import ColumnTransformer
np.random.seed(1)
df = pd.DataFrame({'a': np.random.rand(60), 'b': np.arange(60) % 7, 'c': list('abcdef') * 10})
df['d'] = pd.date_range('2020', periods=60)
df['g'] = df.c.astype('category')
other = df.set_index('d')
X, y = datasets.make_classification(80, 5, random_state=0)
clf = linear_model.LogisticRegression().fit(X, y)
S = scipy.sparse.csr_matrix(np.eye(5))
"""
SEEDS = "random.seed(2)\nnp.random.seed(2)"
PLACES = re.compile(r"0x[0-9a-f]+|ipython-input-\d+-\w+|In\[\d+\]")
PANDAS = """
df.groupby('c').a.agg(['mean', 'std']).round(6).to_dict()
df[df.b == i].describe().round(4).to_dict()
df.pivot_table('a', 'b', 'c', aggfunc='sum').round(6).fillna(0).values.tolist()
df.merge(df.head(i + 1), on='b').shape
pd.concat([df, df.tail(i)]).sort_values('a').a.head(3).tolist()
df.a.rolling(3 + i).mean().dropna().round(6).tolist()[:4]
df.c.str.cat(df.b.astype(str)).tolist()[i]
df.d.dt.month.value_counts().to_dict()
other.resample('7D').a.sum().round(6).tolist()
other.loc['2020-01-03':].a.iloc[i]
df.g.cat.codes.sum() + df.g.cat.categories.size
df.apply(lambda r: r.a * i, axis=1).sum().round(6)
df.assign(z=df.a * i).eq(df.assign(z=1)).sum().to_dict()
df.memory_usage(deep=True).sum()
df.sample(3).index.tolist()
pd.cut(df.a, i + 2).value_counts().tolist()
pd.get_dummies(df.c).sum().tolist()
df.to_numpy().shape, df.isna().sum().sum()
repr(df.head(i + 1))
str(df.dtypes), df.columns.tolist()
df.melt(['b']).head(2).values.tolist()
df.set_index(['b', 'c']).loc[i].a.sum().round(6)
pd.Series(range(i + 3)).cumsum().tolist()
pd.to_datetime('2020-01-0%d' % (i + 1)).day_name()
df.a.quantile([.1, .5]).tolist()
df.corr(numeric_only=True).round(6).values.tolist()
df.stack(future_stack=True).shape
d = df.copy(); d['a'] = i; d.index = range(60); d.a.sum()
d = df; d = d.rename(columns={'a': 'z'}); d.columns.tolist()
"""
SCIPY = """
scipy.stats.norm.rvs(size=2).round(6).tolist()
scipy.stats.ttest_ind(X[:, 0], X[:, 1] + i).pvalue.round(6)
scipy.optimize.minimize(lambda v: (v - i) ** 2, 0.0).x.round(4).tolist()
scipy.optimize.linprog([1, 1], A_ub=[[-1, 0]], b_ub=[-i]).fun
scipy.integrate.quad(lambda v: v * i, 0, 1)[0]
scipy.integrate.solve_ivp(lambda t, v: -v * i, (0, 1), [1.0]).y[0, -1].round(6)
scipy.interpolate.CubicSpline(range(5), range(5))(i / 2).round(6)
scipy.sparse.linalg.spsolve(S.tocsc(), np.ones(5)).tolist()
(S * i).sum()
scipy.signal.convolve([1, 2], [i, 1]).tolist()
scipy.spatial.distance.cdist(X[:2], X[2:4]).round(5).tolist()
X.mean().round(6) + i
np.linalg.svd(X[:4])[1].round(5).tolist()
"""
SKLEARN = """
clf.predict_proba(X[i:i + 1]).round(5).tolist()
sklearn.clone(clf).set_params(C=i + 1).fit(X, y).coef_.round(4).tolist()
linear_model.SGDClassifier(max_iter=2000).fit(X, y).score(X, y)
ensemble.RandomForestClassifier(4).fit(X, y).score(X, y)
ensemble.GradientBoostingClassifier(n_estimators=4).fit(X, y).score(X, y)
ensemble.ExtraTreesClassifier(4, bootstrap=True).fit(X, y).predict(X).sum()
tree.DecisionTreeClassifier(max_depth=i + 1).fit(X, y).get_depth()
neighbors.KNeighborsClassifier(i + 1).fit(X, y).score(X, y)
pipeline.make_pipeline(preprocessing.StandardScaler(), svm.SVC(C=i + 1)).fit(X, y).score(X, y)
model_selection.cross_val_score(naive_bayes.GaussianNB(), X, y, cv=3).round(5).tolist()
model_selection.GridSearchCV(tree.DecisionTreeClassifier(), {'max_depth': [1, 2]}, cv=2).fit(X, y).best_params_
[a.shape for a in model_selection.train_test_split(X, y)]
metrics.roc_auc_score(y, X[:, i % 5]).round(6)
decomposition.PCA(2).fit_transform(X).round(4).tolist()[i]
feature_selection.SelectKBest(k=2).fit(X, y).get_support().tolist()
impute.SimpleImputer().fit_transform([[np.nan], [i]]).tolist()
ColumnTransformer([('n', preprocessing.StandardScaler(), ['a'])]).fit_transform(df).sum().round(6)
preprocessing.OneHotEncoder().fit_transform(df[['c']]).sum()
cluster.KMeans(2, n_init=1).fit(X).inertia_.round(4)
repr(linear_model.Ridge(i)), str(clf)
linear_model.LogisticRegression(max_iter=1).fit(X, y).n_iter_.tolist()
datasets.make_blobs(4, centers=2)[1].tolist()
"""


@pytest.mark.parametrize(
    ("bodies", "few"), [(PANDAS, 4), (SCIPY, 6), (SKLEARN, 14)], ids=["pandas", "scipy", "sklearn"]
)
def test_a_body_gives_the_same_wherever_it_runs(notebook, monkeypatch, bodies, few):
    """All but a `few` bodies of each kind go on in the processes that ran the one before."""
    for name in ("pandas", "scipy", "sklearn"):
        pytest.importorskip(name)
    births: list[int] = []
    begin = Attempts.begin

    def counted(self, waiting, *args, **named):
        births.append(waiting.index)
        return begin(self, waiting, *args, **named)

    def found(body: str) -> str:
        births.clear()
        notebook.ok(SEEDS)
        error = notebook.run(f"%%parallel --workers 2 --keep-going for i in range(6) -> r\n{body}")
        return PLACES.sub("", repr((str(error), repr(notebook.live.get("r")), notebook.out, notebook.err)))

    monkeypatch.setattr(Attempts, "begin", counted)
    notebook.ok(SETUP)
    left = []
    for body in (line.replace("; ", "\n") for line in bodies.strip().split("\n")):
        with monkeypatch.context() as patch:
            patch.setattr(handover, "MOST_ITEMS", 1)
            alone = found(body)
        assert found(body) == alone, body
        assert found(body) == alone, body
        left += [body] if births else []
    assert len(left) <= few, left
