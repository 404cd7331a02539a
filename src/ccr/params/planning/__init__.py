"""How the jobs of each stage are planned: a module for each stage, named as the stage is.

Every function plans a job and all that it needs, and returns the job. A job that is there already is not planned again.
"""
