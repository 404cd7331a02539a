"""How the jobs of each stage are planned: one module per stage, named after it.

Every function plans a job and all that it needs, and returns the job. A job that exists already is not planned again.
"""
