-- Every session was created inside its billing day.
select
    day,
    count(*) as sessions_outside
from sessions
where (created_at - to_hours($hour))::date <> day
group by day
order by day
