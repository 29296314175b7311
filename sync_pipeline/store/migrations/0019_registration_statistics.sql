-- By default Postgres samples 30,000 rows, documents and all, each time the table has grown by a tenth: most of a second of CPU,
-- beside the load that made it grow. Nothing is looked up by what is in `metadata`, and the other columns are keys, a few words
-- or spread evenly: a fifth of the usual detail tells the planner as much, for a fifteenth of the work. And rows that were only
-- added are worth a visit of their own when there are many.
do $$
declare
  field name;
begin
  for field in
    select attname from pg_attribute
    where attrelid = 'registrations.registration'::regclass and attnum > 0 and not attisdropped
  loop
    execute format(
      'alter table registrations.registration alter column %I set statistics %s',
      field, case field when 'metadata' then 0 else 20 end
    );
  end loop;
end
$$;
alter table registrations.registration set (autovacuum_vacuum_insert_threshold = 50000);
