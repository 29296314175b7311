-- A page that was landed, never applied, and cannot be read any more is given up by a resync that lists again what was on it.
alter table sync.page
  add column given_up_at timestamptz,
  drop constraint page_status_check,
  add constraint page_status_check check (status in ('landed', 'applied', 'given_up'));
