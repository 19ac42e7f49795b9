"""The tests, by the subject in each file's name; ACCEPTANCE.md lists the fault cases and their tests.

conftest.py: fixtures that several files use, and a closed network.
models.py, hash_model.py, word_model.py, slow_model.py: models small enough for a test.
children.py, fork_server.py, dump.py, peak_memory.py, hub.py: real runs, trainings, and a Hub.
csv_cases.py, column_types.py, reviews.py, scored_rows.py, summaries.py, pages.py: what goes in and comes out.
listener.py, property_settings.py: a reporter that remembers, and settings of property tests.
"""
