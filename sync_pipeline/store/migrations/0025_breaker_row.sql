-- Failures in a row, whichever workers met them: the row is kept here, and a good answer that any of them notes ends it.
alter table sync.breaker
  add column failing_since timestamptz,  -- when the first of `failures` was told
  add column good_at timestamptz;        -- when a good answer was noted last: one is where there was something to end

-- A failure was met by whoever holds `lease` (or none). A closed breaker opens when there are `enough` in a row; once good answers
-- are known of, the row must also have lasted `unnoted_s`, as long as one of them may go unnoted. A half-open one is opened again by
-- its own probe alone: any other failure is of a call that was on its way before. The cool-down doubles from the one that stands
-- here, which the teller may never have seen. Returns the state.
create function sync.breaker_failed(
  of_connection text, of_scope text, lease text, enough integer, unnoted_s double precision,
  first_s double precision, longest_s double precision, why text
) returns text language plpgsql as $$
declare
  b sync.breaker;
  now_ timestamptz;
  opens boolean;
begin
  insert into sync.breaker (connection, scope) values (of_connection, of_scope) on conflict do nothing;
  select * into b from sync.breaker where connection = of_connection and scope = of_scope for update;
  now_ := clock_timestamp();
  if b.state = 'closed' then
    b.failing_since := coalesce(b.failing_since, now_);
    opens := b.failures + 1 >= enough
      and (b.good_at is null or now_ >= b.failing_since + make_interval(secs => unnoted_s));
  elsif b.state = 'half_open' and b.probe_owner = lease then
    opens := true;
  else
    return b.state;
  end if;
  b.failures := b.failures + 1;
  if opens then
    b.state := 'open';
    b.opened_at := now_;
    b.cool_down_s := least(longest_s, greatest(first_s, 2 * b.cool_down_s));
    b.retry_at := now_ + make_interval(secs => b.cool_down_s);
    b.reason := why;
  end if;
  update sync.breaker
  set state = b.state, failures = b.failures, failing_since = b.failing_since, opened_at = b.opened_at, retry_at = b.retry_at,
      cool_down_s = b.cool_down_s, reason = b.reason, probe_owner = null, probe_expires = null, updated_at = now_
  where connection = of_connection and scope = of_scope;
  return b.state;
end
$$;
