"""Evaluation: arrays in, numbers, figures and one HTML page out.

`metrics` needs numpy (and scipy where a function says so), `probes` scikit-learn, `plots`
matplotlib and mplhep; nothing here is loaded by `import jetfm`.
"""
