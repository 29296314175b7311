-- A window whose settings change while it counts. Slots are numbered by the window's length: a longer one made the numbers of
-- before lie centuries ahead, so that nothing ever left the count; a shorter one made them lie so far back that all was forgotten.
-- What counts by the old settings goes into the newest slot of the new ones: late rather than lost. `q` is the row as it stands,
-- `settings` one that holds the new settings and is otherwise new; the answer is `q` with its count by those.
create function sync.quota_carried(q sync.quota, settings sync.quota, t timestamptz) returns sync.quota
language plpgsql stable as $$
declare
  now_slot constant bigint := sync.quota_slot(settings.window_seconds, settings.slack, t);
  today constant date := (t at time zone settings.zone)::date;
  still integer;
begin
  if (q.kind, q.window_seconds, q.slack, q.zone) = (settings.kind, settings.window_seconds, settings.slack, settings.zone)
    and (q.kind = 'daily' or q.slot <= now_slot) then
    return q;
  end if;
  if q.kind = 'daily' then
    still := case (t at time zone q.zone)::date - q.day when 0 then q.used when 1 then q.late else 0 end;
  else
    still := (sync.quota_turn(q, greatest(q.slot, sync.quota_slot(q.window_seconds, q.slack, t)))).counted;
  end if;
  -- The flow as after a burst. Floors and claims begin anew: their instants were worked out from the old length.
  q.tat := least(q.tat, t + make_interval(secs => settings.burst * settings.emission));
  q.lane_at := settings.lane_at;
  q.claimed_until := null;
  q.slots := settings.slots;
  q.slot := settings.slot;
  q.oldest := settings.oldest;
  q.counted := 0;
  q.day := null;
  q.used := 0;
  q.late := 0;
  if settings.kind = 'daily' then
    q.day := today;
    q.used := still;
    q.late := case when (t + make_interval(secs => settings.slack)) at time zone settings.zone >= (today + 1)::timestamp
      then still else 0 end;
  else
    q.slot := now_slot;
    q.slots[now_slot % 201 + 1] := still;
    q.counted := still;
    q.oldest := now_slot;
  end if;
  return q;
end $$;
