-- A grant costs the server two thirds of what it did. Most of them need no judgement, only the certainty that it would say yes.

-- A check constraint is read and planned anew by each update of a row; what a domain promises is looked at where the column is
-- written. And names sort the same in every database, so rows are locked in the order in which `held` has them.
create domain sync.quota_limit as integer check (value > 0);
create domain sync.quota_seconds as double precision check (value > 0);
create domain sync.quota_kind as text check (value in ('sliding', 'daily'));

drop view sync.quota_now;
alter table sync.quota
  drop constraint quota_window_limit_check,
  drop constraint quota_window_seconds_check,
  drop constraint quota_kind_check,
  alter column window_limit type sync.quota_limit,
  alter column window_seconds type sync.quota_seconds,
  alter column kind type sync.quota_kind,
  alter column scope type text collate "C",
  alter column window_name type text collate "C";

-- As in 0006.
create view sync.quota_now as
select q.scope, q.window_name, q.window_limit, q.window_seconds, q.kind, q.zone, n.used, greatest(0, q.window_limit - n.used) as left_over,
  case when q.blocked_until > clock_timestamp() then q.blocked_until end as blocked_until,
  sync.quota_share(q.share, q.share_at, q.emission, clock_timestamp()) as share,
  q.foreign_rate * power(0.5, extract(epoch from clock_timestamp() - coalesce(q.foreign_at, clock_timestamp())) / 600)
    as foreign_rate
from sync.quota q
cross join lateral (
  select case when q.kind = 'sliding' then
    (sync.quota_turn(q, greatest(q.slot, sync.quota_slot(q.window_seconds, q.slack, clock_timestamp())))).counted
    else case (clock_timestamp() at time zone q.zone)::date - q.day when 0 then q.used when 1 then q.late else 0 end end as used
) n;

-- The full judgement keeps its rules (0006) but for one, and gets a name of its own. The one: a call of lane P0 that weighs more
-- than the burst waited for ever; like those of the other lanes it waits until all of the burst is there.
do $$
declare
  judgement constant text := pg_get_functiondef('sync.quota_grant(text[], integer, integer, integer, timestamptz)'::regprocedure);
  mended constant text := replace(judgement, 'when lane = 0 then c.owed - q.burst * c.emission',
    'when lane = 0 then c.owed - greatest(least_tokens, q.burst) * c.emission');
begin
  assert mended <> judgement;
  execute mended;
end $$;
alter function sync.quota_grant(text[], integer, integer, integer, timestamptz) rename to quota_judge;

-- The same question and answer as `quota_judge`'s. Answered here where every window says yes to all that is asked for; all else
-- is left to it: who has to wait and how long, less than was asked for, claims, a lowered share, use by others, a restart.
--
-- For each window the instants are worked out from which (`opens`) and until which (`stale`) it says yes. So the clock is read
-- after all rows are locked, and one comparison decides. Where a bound is not exact it is on the side of the judgement: by
-- a token of what is kept for the lanes above, and by the rounding of an instant.
create function sync.quota_grant(
  scopes text[], lane integer, least_tokens integer, most_tokens integer, at timestamptz default null
) returns table (granted integer, wait double precision, scope text, window_name text, now timestamptz, held integer[])
language plpgsql set plan_cache_mode = force_generic_plan as $$
#variable_conflict use_column
declare
  place constant integer := lane + 1;
  -- (an assignment, since `perform` is a statement more)
  unflushed constant text := set_config('synchronous_commit', 'off', true);
  k record;
  opens timestamptz;
  stale timestamptz;
  forwarded boolean := false;
begin
  loop
    for k in
      select b.boot, w.room,
        case when q.booted_at = b.boot and q.share = 1 and q.foreign_rate = 0 and w.room >= most_tokens
            and (lane > 0 or q.burst >= least_tokens) then
          greatest(q.blocked_until, q.claimed_until, case q.kind when 'sliding' then greatest(
              -- the burst, or the floor
              least(q.tat - make_interval(secs => q.emission * greatest(0, q.burst * l.burst_part - least_tokens)),
                case when lane > 0 then q.lane_at[place] end),
              -- what is kept for the lanes above until the oldest call leaves the window, or the floor
              case when w.room - most_tokens < floor(q.window_limit * l.kept) then least(q.lane_at[place],
                case when q.counted = 0 then 'infinity' else to_timestamp((q.window_seconds + q.slack)
                  * ((q.oldest + 201) / 200.0::double precision - (w.room - most_tokens) / (q.window_limit * l.kept))) end) end)
            else w.midnight - make_interval(secs =>
              86400 * (1 - (q.used + most_tokens + 1)::double precision / q.window_limit) / nullif(l.saved, 0)) end)
          else 'infinity' end as opens,
        case q.kind when 'sliding'
          then to_timestamp((q.slot + 1) * (q.window_seconds + q.slack) / 200 - 0.000005)
          else w.midnight end as stale
      from sync.quota q
      cross join lateral (
        select q.window_limit - case q.kind when 'sliding' then q.counted else q.used end as room,
          case q.kind when 'daily' then (coalesce(q.day, '-infinity') + 1)::timestamp at time zone q.zone end as midnight
      ) w
      -- as in `quota_judge`
      cross join lateral (
        select (array[1, 0.9, 0.75, 0.6, 0.5]::double precision[])[place] as burst_part,
          (array[0, 0.1, 0.25, 0.4, 0.6]::double precision[])[place] as kept,
          (array[0, 0.02, 0.05, 0.2, 0.3]::double precision[])[place] as saved
      ) l
      cross join lateral (
        select (select b.seen_at from sync.quota_boot b where b.started = pg_postmaster_start_time()) as boot
      ) b
      where q.scope = any(scopes)
      order by q.scope, q.window_name
      for update of q
    loop
      -- (a null is no bound)
      opens := greatest(opens, k.opens);
      stale := least(stale, k.stale);
      held := held || k.room;
    end loop;
    now := coalesce(at, clock_timestamp());
    exit when now < stale or opens = 'infinity' or held is null or forwarded;
    perform sync.quota_forward(scopes, now, k.boot);
    forwarded := true;
    opens := null;
    stale := null;
    held := null;
  end loop;
  if held is null or now < opens or now >= stale then
    return query select * from sync.quota_judge(scopes, lane, least_tokens, most_tokens, at);
    return;
  end if;
  update sync.quota q set
    slots[q.slot % 201 + 1] = q.slots[q.slot % 201 + 1] + case q.kind when 'sliding' then most_tokens else 0 end,
    counted = q.counted + case q.kind when 'sliding' then most_tokens else 0 end,
    oldest = case when q.counted = 0 then q.slot else q.oldest end,
    share_at = greatest(now, q.share_at),
    tat = greatest(q.tat, now) + make_interval(secs => most_tokens * q.emission),
    lane_at[place] = now + make_interval(secs =>
      most_tokens * q.emission / (array[0.2, 0.2, 0.2, 0.1, 0.05]::double precision[])[place]),
    claimed_until = case when q.claim_lane = lane then null else q.claimed_until end,
    used = q.used + case q.kind when 'sliding' then 0 else most_tokens end,
    late = q.late + case when q.kind = 'daily' and (now + make_interval(secs => q.slack)) at time zone q.zone
                              >= (q.day + 1)::timestamp then most_tokens else 0 end,
    updated_at = now
  where q.scope = any(scopes);
  granted := most_tokens;
  wait := 0;
  return next;
end $$;
