"""The synthetic mini-world: moving coloured shapes with captions, published as real data sets are.

Everything it writes is synthetic and says so. It is a library that stands in for a data set's publisher: it
draws scenes (`scenes`), renders them to real video or image files (`render`), describes them in several languages
(`captions`, `languages`) and lays the result out as VATEX or Multi30K does (`publish`).
"""
