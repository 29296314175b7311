-- Sessions are Dagster's runs; pages, audit and logs carry the run's id. The table had no writer.
drop table sync.session;
