"""Score the reviews that a DuckDB query gives and keep them in a table, with no file in between.

Usage: python examples/duckdb_reviews.py [MODEL]
"""

import sys

import duckdb

import batchsent

model = batchsent.load(*sys.argv[1:2])
database = duckdb.connect()  # or duckdb.connect("reviews.duckdb")
database.sql("CREATE TABLE reviews AS FROM 'examples/reviews.csv'")

# A cursor of its own: its rows are read while the connection fills the table. In memory there are a
# few thousand of them at a time, however many the query gives.
query = database.cursor().sql("SELECT id, product, stars, text FROM reviews WHERE stars <> 3")
rows = model.score_frame(query.to_arrow_reader(8192))
database.sql("CREATE TABLE scored AS FROM rows")

print(
    database.sql(
        "SELECT product, label, count(*) AS reviews, round(avg(score), 2) AS score "
        "FROM scored GROUP BY ALL ORDER BY ALL"
    )
)
