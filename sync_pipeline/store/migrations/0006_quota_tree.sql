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
  tat timestamptz not null default '-infinity',            -- GCRA: theoretical arrival time
  lane_at timestamptz[] not null default array_fill('-infinity'::timestamptz, array[5]), -- when a lane's floor lets it book next
  day date,                               -- daily: the vendor's day that `used` counts
  used integer not null default 0,
  late integer not null default 0,        -- daily: granted so late that the vendor may count it tomorrow
  blocked_until timestamptz,
  booted_at timestamptz,                  -- start of the server process that the state has lived through
  remaining_said integer,
  reset_said timestamptz,
  updated_at timestamptz not null default clock_timestamp(),
  primary key (scope, window_name)
) with (fillfactor = 40);

-- May `lane` (0 to 4) have `tokens` of every window of these nodes? If so they are booked, in all or in none, and `wait`
-- seconds from `now` on they may be used; if not, `wait` is when asking again may help. At most `longest` seconds are booked
-- ahead. `at` stands for the clock in tests.
--
-- Sliding windows are GCRA. P0 books whatever is free next. Another lane books only while the bucket holds what is kept for
-- the lanes above it (`kept`), or when its floor is due: so P4 can saturate a window and P0 still finds tokens, and no lane
-- starves. What nobody above uses is everybody's. A little is booked ahead (half a second, or one token), so that a window
-- that is wanted is never idle between two questions.
--
-- A daily window keeps a share for the lanes above that melts away towards the vendor's midnight.
create function sync.quota_grant(
  scopes text[], lane integer, tokens integer, longest double precision, at timestamptz default null
) returns table (granted boolean, wait double precision, scope text, window_name text, now timestamptz)
language plpgsql as $$
declare
  kept constant double precision[] := array[0, 0.1, 0.25, 0.4, 0.6];
  floors constant double precision[] := array[0.2, 0.2, 0.2, 0.1, 0.05];
  saved constant double precision[] := array[0, 0.02, 0.05, 0.2, 0.3];
  q sync.quota;
  t timestamptz;
  ready double precision;      -- seconds until the tokens may be used, if they are booked now
  pause double precision;      -- seconds until asking again may help, if they are not
  books boolean;
  midnight timestamptz;
  left_share double precision;
  free double precision;
  all_book boolean := true;
  found_any boolean := false;
  worst double precision := 0;
  worst_scope text;
  worst_window text;
begin
  perform 1 from sync.quota k where k.scope = any(scopes) order by k.scope, k.window_name for update;
  t := coalesce(at, clock_timestamp());
  for q in select * from sync.quota k where k.scope = any(scopes) order by k.scope, k.window_name loop
    found_any := true;
    ready := 0;
    books := true;
    if q.blocked_until > t then
      books := false;
      pause := extract(epoch from q.blocked_until - t);
    elsif q.kind = 'sliding' then
      -- what would be owed after this grant, in seconds of emission
      free := extract(epoch from greatest(q.tat, t) - t) + tokens * q.emission;
      ready := greatest(0, free - q.burst * q.emission);
      pause := free - greatest(tokens, q.burst * (1 - kept[lane + 1])) * q.emission - greatest(0.5, q.emission);
      books := ready <= longest and (lane = 0 or pause <= 0 or q.lane_at[lane + 1] <= t);
      pause := greatest(ready - longest, least(pause, extract(epoch from greatest(q.lane_at[lane + 1], t) - t)), 0.001);
    else
      midnight := (((t at time zone q.zone)::date + 1)::timestamp) at time zone q.zone;
      left_share := least(1, extract(epoch from midnight - t) / 86400);
      free := case when q.day = (t at time zone q.zone)::date then q.used else q.late end + tokens;
      books := free <= q.window_limit * (1 - saved[lane + 1] * left_share);
      pause := extract(epoch from midnight - t) + q.slack;
      if free <= q.window_limit and saved[lane + 1] > 0 then
        pause := least(pause, extract(epoch from midnight - t)
                              - 86400 * (1 - free / q.window_limit) / saved[lane + 1]);
      end if;
      pause := greatest(pause, 0.001);
    end if;
    if not books then
      if all_book then worst := 0; end if;
      all_book := false;
      if pause > worst then worst := pause; worst_scope := q.scope; worst_window := q.window_name; end if;
    elsif all_book and ready >= worst then
      worst := ready; worst_scope := q.scope; worst_window := q.window_name;
    end if;
  end loop;
  if not found_any then
    return;
  end if;
  if all_book then
    update sync.quota k set
      tat = case when k.kind = 'sliding' then greatest(k.tat, t) + make_interval(secs => tokens * k.emission) else k.tat end,
      lane_at[lane + 1] = t + make_interval(secs => tokens * k.emission / floors[lane + 1]),
      used = case when k.kind = 'sliding' then k.used + tokens
                  when k.day = (t at time zone k.zone)::date then k.used + tokens else k.late + tokens end,
      late = case when k.kind = 'sliding' then 0
                  when (t + make_interval(secs => k.slack)) at time zone k.zone
                       >= (((t at time zone k.zone)::date + 1)::timestamp)
                  then case when k.day = (t at time zone k.zone)::date then k.late else 0 end + tokens
                  else case when k.day = (t at time zone k.zone)::date then k.late else 0 end end,
      day = (t at time zone k.zone)::date,
      updated_at = clock_timestamp()
    where k.scope = any(scopes);
  end if;
  return query select all_book, worst, worst_scope, worst_window, t;
end $$;

-- Tokens that were not used. They come back as if they had never been taken.
create function sync.quota_give_back(scopes text[], tokens integer) returns void language sql as $$
  update sync.quota k
  set tat = case when k.kind = 'sliding' then k.tat - make_interval(secs => tokens * k.emission) else k.tat end,
      used = greatest(0, k.used - tokens)
  where k.scope = any(scopes)
$$;
