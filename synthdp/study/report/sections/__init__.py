"""What sections of a study's report show: data of their own, under the names of the templates.

Not every report has all of them. Where the study's own settings ask for one that can't be made, the
page says why; where the settings of this report do, it is refused.
"""
