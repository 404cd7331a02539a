"""The synthetic mini-world: moving coloured shapes with captions, published like real data sets.

Everything it writes is synthetic and says so. It is a library that stands in for a data set's publisher: it
draws scenes (`scenes`), renders them to real video or image files (`render`), describes them in several languages
(`captions`, `languages`) and writes the result in the layout of VATEX or Multi30K (`publish`).
"""
