-- The quota tree: one row a window of a node (vendor, account, credential or endpoint class). Its state is a few seconds'
-- worth of memory, so the first form's rows are not carried over: sessions make theirs when they start.
drop table sync.quota;

create table sync.quota (
  scope text not null,                    -- the node
  window_name text not null,
  window_limit integer not null check (window_limit > 0),
  window_seconds double precision not null check (window_seconds > 0),
  kind text not null check (kind in ('sliding', 'daily')),
  burst integer not null,                 -- sliding: tokens at once
  emission double precision not null,     -- sliding: seconds for a token to come back
  zone text not null default 'UTC',       -- daily: where the vendor's day begins
  slack double precision not null,        -- longest seconds from a grant to the vendor's counting it
  tat timestamptz not null default '-infinity',            -- GCRA: theoretical arrival time, shapes the flow
  slot bigint not null default 0,         -- sliding: the newest slot of time that `slots` counts
  slots integer[] not null default array_fill(0, array[201]), -- a ring: grants of the last window, by slot
  counted integer not null default 0,     -- sum of `slots`: never above the limit
  oldest bigint not null default 0,       -- no older slot counts anything
  lane_at timestamptz[] not null default array_fill('-infinity'::timestamptz, array[5]), -- when a lane's floor is due again
  claim_lane integer,                     -- who was refused last though it was due: the next free tokens are for this lane
  claim_tokens integer not null default 0,
  claimed_until timestamptz,
  day date,                               -- daily: the vendor's day that `used` counts
  used integer not null default 0,
  late integer not null default 0,        -- daily: granted so late that the vendor may count it tomorrow
  share double precision not null default 1,               -- what the vendor is believed to grant of the limit
  share_at timestamptz not null default clock_timestamp(), -- it grows back from here
  lowered_at timestamptz not null default '-infinity',     -- when a refusal lowered it last
  foreign_rate double precision not null default 0,        -- calls a second by others on the same key
  foreign_at timestamptz,
  blocked_until timestamptz,
  booted_at timestamptz,                  -- start of the server that the state has lived through
  local_at timestamptz,                   -- when a worker came back last that had gone on without the store
  remaining_said integer,
  reset_said timestamptz,
  updated_at timestamptz not null default clock_timestamp(),
  primary key (scope, window_name)
) with (fillfactor = 40);

-- What others used on the same key, as the vendor's words show it.
create table sync.quota_foreign (
  at timestamptz not null default clock_timestamp(),
  scope text not null,
  window_name text not null,
  calls integer not null
);
create index quota_foreign_at on sync.quota_foreign (at);

-- Empty after a crash (unlogged), another row after a restart. Grants are not flushed to disk one by one, so a server that
-- died may have forgotten the last of them.
create unlogged table sync.quota_boot (
  started timestamptz primary key,
  seen_at timestamptz not null default clock_timestamp()
);

create function sync.quota_booted() returns timestamptz language plpgsql as $$
declare
  found_at timestamptz;
begin
  select b.seen_at into found_at from sync.quota_boot b where b.started = pg_postmaster_start_time();
  if not found then
    insert into sync.quota_boot (started) values (pg_postmaster_start_time()) on conflict (started) do nothing;
    select b.seen_at into found_at from sync.quota_boot b where b.started = pg_postmaster_start_time();
  end if;
  return found_at;
end $$;

-- The slot of time that an instant falls into: 200 of them are a window and its slack.
create function sync.quota_slot(seconds double precision, slack double precision, t timestamptz) returns bigint
language sql immutable as $$
  select floor(extract(epoch from t)::double precision * 200 / (seconds + slack))::bigint
$$;

-- The share of the limit that the vendor is believed to grant: what a refusal took (15 %) comes back in six hundred calls, and
-- in no less than a minute.
create function sync.quota_share(
  share double precision, since timestamptz, emission double precision, t timestamptz
) returns double precision language sql immutable as $$
  select case when share = 1 then 1 else least(1, share
    + share * 0.15 * greatest(0, extract(epoch from t - since)::double precision) / greatest(60, 600 * emission / share)) end
$$;

-- The ring brought forward to `upto`: what is older than 200 slots no longer counts.
create function sync.quota_turn(q sync.quota, upto bigint) returns sync.quota language plpgsql immutable as $$
declare
  place integer;
begin
  if upto - q.slot > 200 then
    q.slots := array_fill(0, array[201]);
    q.counted := 0;
    q.slot := upto;
  end if;
  while q.slot < upto loop
    q.slot := q.slot + 1;
    place := q.slot % 201 + 1;
    q.counted := q.counted - q.slots[place];
    q.slots[place] := 0;
  end loop;
  q.oldest := greatest(q.oldest, q.slot - 200);
  while q.oldest < q.slot and q.slots[q.oldest % 201 + 1] = 0 loop
    q.oldest := q.oldest + 1;
  end loop;
  return q;
end $$;

-- `tokens` booked in the ring's newest slot, or in an older one that leaves earlier.
create function sync.quota_count(q sync.quota, into_slot bigint, tokens integer) returns sync.quota
language plpgsql immutable as $$
declare
  chosen bigint := greatest(q.slot - 200, least(q.slot, into_slot));
begin
  q.slots[chosen % 201 + 1] := q.slots[chosen % 201 + 1] + tokens;
  q.counted := q.counted + tokens;
  q.oldest := least(q.oldest, chosen);
  return q;
end $$;

-- These nodes brought forward to `t`: slots that have left no longer count, a new day begins at nothing; after a restart the
-- burst, and what a second of grants can be, count as spent. (Apart from `quota_grant`, since most grants need none of it.)
create function sync.quota_forward(scopes text[], t timestamptz, boot timestamptz) returns void language plpgsql as $$
declare
  q sync.quota;
  today date;
begin
  for q in select * from sync.quota k where k.scope = any(scopes) loop
    if q.kind = 'sliding' then
      q := sync.quota_turn(q, greatest(q.slot, sync.quota_slot(q.window_seconds, q.slack, t)));
      if q.booted_at is not null and q.booted_at is distinct from boot then
        q := sync.quota_count(q, q.slot, greatest(0, least(
          q.window_limit - q.counted, q.burst + ceil(1 / q.emission)::integer)));
        q.tat := greatest(q.tat, t + make_interval(secs => q.burst * q.emission));
      end if;
    else
      if q.booted_at is not null and q.booted_at is distinct from boot then
        q.used := least(q.window_limit, q.used + 16 + q.window_limit / 200);
      end if;
      today := (t at time zone q.zone)::date;
      if q.day is null or q.day < today then
        q.used := case when q.day = today - 1 then q.late else 0 end;
        q.late := 0;
        q.day := today;
      end if;
    end if;
    update sync.quota k set slot = q.slot, slots = q.slots, counted = q.counted, oldest = q.oldest, tat = q.tat, day = q.day,
      used = q.used, late = q.late, booted_at = boot
    where k.scope = q.scope and k.window_name = q.window_name;
  end loop;
end $$;

-- Seconds from `t` until `need` of what a full window counts have left it.
create function sync.quota_full(q sync.quota, need integer, t timestamptz) returns double precision
language plpgsql immutable as $$
declare
  freed integer := 0;
begin
  for back in reverse 200..0 loop
    freed := freed + q.slots[(q.slot - back) % 201 + 1];
    if freed >= need or back = 0 then
      return greatest(0.001, (q.slot - back + 201) * (q.window_seconds + q.slack) / 200 - extract(epoch from t));
    end if;
  end loop;
end $$;

-- May `lane` (0 to 4) have between `least_tokens` and `most_tokens` of every window of these nodes? `granted` says how many
-- (in all nodes or in none; 0: none), to be used at once; and `wait` the seconds from `now` until asking again may help, if
-- none: because of a window of a scope, or, where no window is named, of what the vendor asked for. `held`: what each window held before, in the order of scope and name. `at` stands for the clock in tests.
--
-- A sliding window is kept by a count: the grants of the last window and slack, in 200 slots, never exceed the limit,
-- whatever came before (a burst does not put burst and rate into one window). Within that, by lane: P0 takes what is free;
-- each other lane leaves a part of the burst (GCRA), and a part of the window that melts away until the oldest call leaves it,
-- so that P0 finds room while P4 uses all there is. A lane's floor, when it is due, goes before that; and who was due and
-- found the window full has a claim on what comes back next. What nobody above uses is everybody's.
--
-- A daily window keeps a share for the lanes above that melts away towards the vendor's midnight.
create function sync.quota_grant(
  scopes text[], lane integer, least_tokens integer, most_tokens integer, at timestamptz default null
) returns table (granted integer, wait double precision, scope text, window_name text, now timestamptz, held integer[])
language plpgsql set plan_cache_mode = force_generic_plan as $$
#variable_conflict use_column
declare
  bursts constant double precision[] := array[1, 0.9, 0.75, 0.6, 0.5];   -- part of the burst, by lane
  kept constant double precision[] := array[0, 0.1, 0.25, 0.4, 0.6];     -- part of a window left for the lanes above
  floors constant double precision[] := array[0.2, 0.2, 0.2, 0.1, 0.05]; -- part of the rate, by lane
  saved constant double precision[] := array[0, 0.02, 0.05, 0.2, 0.3];   -- part of a day kept for the lanes above
  place constant integer := lane + 1;
  boot timestamptz;
  t timestamptz;
  k record;
  number integer := most_tokens;
  worst double precision := 0;
  worst_scope text;
  worst_window text;
  held_before integer[] := '{}';
  stale boolean := true;
begin
  perform set_config('synchronous_commit', 'off', true);
  perform 1 from sync.quota q where q.scope = any(scopes) order by q.scope, q.window_name for update;
  if not found then
    return;
  end if;
  t := coalesce(at, clock_timestamp());
  select b.seen_at into boot from sync.quota_boot b where b.started = pg_postmaster_start_time();
  boot := coalesce(boot, sync.quota_booted());
  <<judge>>
  loop
  for k in
    select q.booted_at is distinct from boot or case q.kind
        when 'sliding' then q.slot < sync.quota_slot(q.window_seconds, q.slack, t)
        else q.day is null or q.day < (t at time zone q.zone)::date end as stale,
      q.window_limit - case q.kind when 'sliding' then q.counted else q.used end as held,
      coalesce(q.blocked_until > t, false) as blocked,
      q.scope, q.window_name, c.room,
      greatest(extract(epoch from q.blocked_until - t), case
        when q.kind = 'sliding' then case
          when c.room + c.melting < least_tokens then sync.quota_full(q, least_tokens - c.room - c.melting, t)
          when c.room < least_tokens then least(sync.quota_full(q, least_tokens - c.room, t), 0.001 + greatest(0,
            (c.ageing - (c.room + c.melting - least_tokens + 1) / (q.window_limit * kept[place]))
              * (q.window_seconds + q.slack)))
          when lane = 0 then c.owed - q.burst * c.emission
          when c.due then 0
          else least(c.owed - greatest(least_tokens, q.burst * bursts[place]) * c.emission,
                     extract(epoch from q.lane_at[place] - t)) end
        when c.room >= least_tokens then 0
        when q.window_limit - q.used >= least_tokens and saved[place] > 0
          -- when the melting share sets it free, at midnight at the latest
          then greatest(0.001, c.owed - 86400 * (1 - (q.used + least_tokens)::double precision / q.window_limit) / saved[place])
        else c.owed + q.slack end) as pause,
      q.kind = 'sliding' and c.room < least_tokens and c.due
        and (lane = 0 or coalesce(q.claimed_until <= t, true) or q.claim_lane = lane) as claims
    from sync.quota q
    cross join lateral (
      -- the part of a window until its oldest call leaves it
      select case when q.counted = 0 then 1 else greatest(0, (q.oldest + 201) / 200.0::double precision
        - extract(epoch from t)::double precision / (q.window_seconds + q.slack)) end as ageing
      offset 0
    ) a
    cross join lateral (
      select sync.quota_share(q.share, q.share_at, q.emission, t) as share,
        lane = 0 or q.lane_at[place] <= t as due,
        a.ageing,
        case when lane = 0 or q.lane_at[place] <= t then 0
          else floor(q.window_limit * kept[place] * least(1, a.ageing))::integer end as melting,
        extract(epoch from (((q.day + 1)::timestamp) at time zone q.zone) - t)::double precision as to_midnight
      offset 0  -- computed once, not in each place that reads it
    ) s
    cross join lateral (
      select s.due, s.ageing, s.melting, q.emission / s.share as emission,
        case when q.kind = 'sliding'
          then extract(epoch from greatest(q.tat, t) - t) + least_tokens * q.emission / s.share
          else s.to_midnight end as owed,
        case when q.kind = 'sliding'
          then greatest(1, floor(q.window_limit * s.share)::integer)
            - case when q.foreign_rate = 0 then 0
                else ceil(2 * q.foreign_rate * power(0.5, extract(epoch from t - q.foreign_at) / 600))::integer end
            - q.counted
            - s.melting
            - case when q.claimed_until > t and lane <> 0 and lane <> q.claim_lane then q.claim_tokens else 0 end
          else floor(q.window_limit * (1 - saved[place] * least(1, s.to_midnight / 86400)))::integer - q.used end as room
      offset 0
    ) c
    where q.scope = any(scopes)
    order by q.scope collate "C", q.window_name collate "C"
  loop
    if k.stale and stale then
      -- once; most grants find the tree as the last one left it
      perform sync.quota_forward(scopes, t, boot);
      stale := false;
      number := most_tokens;
      worst := 0;
      held_before := '{}';
      continue judge;
    end if;
    held_before := held_before || k.held;
    number := least(number, k.room);
    -- (less than that is a rounding of the arithmetic)
    if k.pause > greatest(worst, 0.00001) then
      worst := k.pause; worst_scope := k.scope; worst_window := case when k.blocked then null else k.window_name end;
    end if;
    if k.claims then
      update sync.quota q set claim_lane = lane, claim_tokens = least_tokens,
        claimed_until = t + make_interval(secs => k.pause + 1)
      where q.scope = k.scope and q.window_name = k.window_name;
    end if;
  end loop;
  exit judge;
  end loop;
  if worst > 0 then
    granted := 0;
    wait := worst;
    scope := worst_scope;
    window_name := worst_window;
    now := t;
    return next;
    return;
  end if;
  update sync.quota q set
    slots[q.slot % 201 + 1] = q.slots[q.slot % 201 + 1] + case q.kind when 'sliding' then number else 0 end,
    counted = q.counted + case q.kind when 'sliding' then number else 0 end,
    oldest = case when q.counted = 0 then q.slot else q.oldest end,
    share = sync.quota_share(q.share, q.share_at, q.emission, t),
    share_at = greatest(t, q.share_at),
    tat = greatest(q.tat, t) + make_interval(secs =>
      number * q.emission / sync.quota_share(q.share, q.share_at, q.emission, t)),
    lane_at[place] = t + make_interval(secs =>
      number * q.emission / sync.quota_share(q.share, q.share_at, q.emission, t) / floors[place]),
    claimed_until = case when q.claim_lane = lane then null else q.claimed_until end,
    used = q.used + case q.kind when 'sliding' then 0 else number end,
    late = q.late + case when q.kind = 'daily' and (t + make_interval(secs => q.slack)) at time zone q.zone
                              >= (q.day + 1)::timestamp then number else 0 end,
    updated_at = t
  where q.scope = any(scopes);
  granted := number;
  wait := 0;
  now := t;
  held := held_before;
  return next;
end $$;

-- Tokens that were never used, though they might have been at `used_at`: they come back as if they had not been taken. (A day
-- keeps them where it has changed since.)
create function sync.quota_give_back(scopes text[], tokens integer, used_at timestamptz) returns void
language plpgsql as $$
declare
  q sync.quota;
  at_slot bigint;
begin
  perform set_config('synchronous_commit', 'off', true);
  for q in select * from sync.quota k where k.scope = any(scopes) order by k.scope, k.window_name for update loop
    at_slot := sync.quota_slot(q.window_seconds, q.slack, used_at);
    if q.kind = 'daily' then
      if q.day = (used_at at time zone q.zone)::date then
        q.used := greatest(0, q.used - tokens);
      end if;
    elsif at_slot > q.slot - 201 and at_slot <= q.slot and q.slots[at_slot % 201 + 1] >= tokens then
      q := sync.quota_count(q, at_slot, -tokens);
      q.tat := q.tat - make_interval(secs => tokens * q.emission);
    end if;
    update sync.quota k set slots = q.slots, counted = q.counted, tat = q.tat, used = q.used
    where k.scope = q.scope and k.window_name = q.window_name;
  end loop;
end $$;

-- Calls that were made without asking (the store could not be reached): they count, and the burst as spent, for what others
-- sent who have not come back yet. That once a window: whoever comes back after the first finds it booked.
create function sync.quota_spend(scopes text[], tokens integer) returns void language plpgsql as $$
declare
  q sync.quota;
  t timestamptz;
  others integer;
begin
  for q in select * from sync.quota k where k.scope = any(scopes) order by k.scope, k.window_name for update loop
    t := clock_timestamp();
    if q.kind = 'daily' then
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
    update sync.quota k set slot = q.slot, slots = q.slots, counted = q.counted, oldest = q.oldest, tat = q.tat, used = q.used,
      local_at = q.local_at
    where k.scope = q.scope and k.window_name = q.window_name;
  end loop;
end $$;

-- A refusal that nothing announced: the vendor grants less than the limit says. Additive increase, multiplicative decrease
-- (Chiu and Jain, 1989); refusals of calls that were on their way count as one. `at` stands for the clock in tests.
create function sync.quota_lower(scopes text[], at timestamptz default null) returns void language sql as $$
  update sync.quota q
  set share = greatest(0.05, sync.quota_share(q.share, q.share_at, q.emission, n.t) * 0.85), share_at = n.t,
    lowered_at = n.t
  from (select coalesce(at, clock_timestamp()) as t) n
  where q.scope = any(scopes) and q.kind = 'sliding' and q.remaining_said is null
    and q.lowered_at < n.t - interval '2 seconds'
$$;

-- The vendor says that `remaining` are left until its reset in `reset_s` seconds: the estimate may only go down to that. What
-- it goes down by was used by others, and leaves the vendor's window in `leave_s`.
create function sync.quota_told(
  scopes text[], name text, remaining integer, reset_s double precision, leave_s double precision
) returns integer
language plpgsql as $$
declare
  q sync.quota;
  t timestamptz;
  unseen integer;
  gap double precision;
  most integer := 0;
begin
  perform set_config('synchronous_commit', 'off', true);
  for q in select * from sync.quota k where k.scope = any(scopes) and k.window_name = name for update loop
    t := clock_timestamp();
    if q.kind = 'daily' then
      if q.day is distinct from (t at time zone q.zone)::date then
        q.day := (t at time zone q.zone)::date;
        q.used := 0;
        q.late := 0;
      end if;
      unseen := greatest(0, q.window_limit - remaining - q.used);
      q.used := q.used + unseen;
    else
      q := sync.quota_turn(q, greatest(q.slot, sync.quota_slot(q.window_seconds, q.slack, t)));
      unseen := greatest(0, q.window_limit - remaining - q.counted);
      q := sync.quota_count(
        q, sync.quota_slot(q.window_seconds, q.slack, t + make_interval(secs => leave_s)) - 200, unseen);
    end if;
    if unseen > 0 then
      -- an average over the last minute or so
      gap := least(60, greatest(0.05, extract(epoch from t - coalesce(q.foreign_at, t - interval '10 s'))));
      q.foreign_rate := q.foreign_rate + (unseen / gap - q.foreign_rate) * (1 - exp(-gap / 20));
      q.foreign_at := t;
      insert into sync.quota_foreign (scope, window_name, calls) values (q.scope, q.window_name, unseen);
      most := greatest(most, unseen);
    end if;
    update sync.quota k set slot = q.slot, slots = q.slots, counted = q.counted, oldest = q.oldest, day = q.day, used = q.used, late = q.late,
      foreign_rate = q.foreign_rate, foreign_at = q.foreign_at, remaining_said = remaining,
      reset_said = t + make_interval(secs => reset_s),
      blocked_until = case when remaining <= 0 then greatest(k.blocked_until, t + make_interval(secs => reset_s))
                           else k.blocked_until end
    where k.scope = q.scope and k.window_name = q.window_name;
  end loop;
  return most;
end $$;

-- The tree as it stands: what each window has left by our own count.
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
