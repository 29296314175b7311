-- What made this database: the demo may empty only what a demo has made.
create table sync.origin (
  kind text primary key,
  detail jsonb not null,
  made_at timestamptz not null default clock_timestamp()
);
