-- Every version lies in the billing day its session was created in.
select
    day,
    count(*) as versions_outside
from versions
where (created_at - to_hours($hour))::date <> day
group by day
order by day
