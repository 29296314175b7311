-- What others use is forgotten by half in ten minutes. It was computed in numeric, which cannot hold 0.5 to a power of a thousand:
-- a week after the last foreign use every grant failed. After twenty halvings there is nothing left of it; where the clock went
-- back, all of it is.
create function sync.quota_fading(rate double precision, since timestamptz, t timestamptz) returns double precision
language sql immutable as $$
  select case when since is null or rate = 0 then rate when f.halvings > 20 then 0
    else rate * power(0.5::double precision, greatest(0, f.halvings)) end
  from (select extract(epoch from t - since)::double precision / 600 as halvings) f
$$;

-- The judgement keeps its rules (0006, 0012) but for that, and for another: of a day whose limit is small, what is kept for the
-- lanes above was all of it until midnight. The first call of a day is anybody's.
do $$
declare
  judgement constant text := pg_get_functiondef('sync.quota_judge(text[], integer, integer, integer, timestamptz)'::regprocedure);
  faded constant text := replace(judgement,
    'q.foreign_rate * power(0.5, extract(epoch from t - q.foreign_at) / 600)',
    'sync.quota_fading(q.foreign_rate, q.foreign_at, t)');
  mended constant text := replace(faded,
    'floor(q.window_limit * (1 - saved[place] * least(1, s.to_midnight / 86400)))::integer - q.used',
    'greatest(least(least_tokens, q.window_limit),
              floor(q.window_limit * (1 - saved[place] * least(1, s.to_midnight / 86400)))::integer) - q.used');
begin
  assert faded <> judgement and mended <> faded;
  execute mended;
end $$;

create or replace view sync.quota_now as
select q.scope, q.window_name, q.window_limit, q.window_seconds, q.kind, q.zone, n.used, greatest(0, q.window_limit - n.used) as left_over,
  case when q.blocked_until > clock_timestamp() then q.blocked_until end as blocked_until,
  sync.quota_share(q.share, q.share_at, q.emission, clock_timestamp()) as share,
  sync.quota_fading(q.foreign_rate, q.foreign_at, clock_timestamp()) as foreign_rate
from sync.quota q
cross join lateral (
  select case when q.kind = 'sliding' then
    (sync.quota_turn(q, greatest(q.slot, sync.quota_slot(q.window_seconds, q.slack, clock_timestamp())))).counted
    else case (clock_timestamp() at time zone q.zone)::date - q.day when 0 then q.used when 1 then q.late else 0 end end as used
) n;

-- As in 0006, but a day is brought forward first, as by a grant: what was sent after midnight was booked on the day before, and
-- the first grant threw it away.
create or replace function sync.quota_spend(scopes text[], tokens integer) returns void language plpgsql as $$
declare
  q sync.quota;
  t timestamptz;
  today date;
  others integer;
begin
  for q in select * from sync.quota k where k.scope = any(scopes) order by k.scope, k.window_name for update loop
    t := clock_timestamp();
    if q.kind = 'daily' then
      today := (t at time zone q.zone)::date;
      if q.day is null or q.day < today then
        q.used := case when q.day = today - 1 then q.late else 0 end;
        q.late := 0;
        q.day := today;
      end if;
      q.used := least(q.window_limit, q.used + tokens);
    else
      others := 0;
      if q.local_at is null or q.local_at <= t - make_interval(secs => q.window_seconds + q.slack) then
        others := q.burst;
        q.local_at := t;
      end if;
      q := sync.quota_turn(q, greatest(q.slot, sync.quota_slot(q.window_seconds, q.slack, t)));
      q := sync.quota_count(q, q.slot, greatest(0, least(q.window_limit - q.counted, others + tokens)));
      q.tat := greatest(q.tat, t + make_interval(secs => q.burst * q.emission));
    end if;
    update sync.quota k set slot = q.slot, slots = q.slots, counted = q.counted, oldest = q.oldest, tat = q.tat, day = q.day,
      used = q.used, late = q.late, local_at = q.local_at
    where k.scope = q.scope and k.window_name = q.window_name;
  end loop;
end $$;
