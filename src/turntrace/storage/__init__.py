"""Tables, the few writes, and the queries. Knows SQL; knows no pipeline, web or scheduler."""
