"""One page of a run, or of several side by side: a single HTML file that opens from disk.

facts.py       what a run's folder says
SECTION.py     one section each: what it shows, or what is missing for it and which command brings it
charts.py, scales.py, elements.py, formatting.py      how it is drawn
page.py        the whole page; assets/ has its style and script, and sortable.min.js with its licence
write.py       from workdirs to the file
"""
