-- No organization is left without a listed session, as one that the key may no longer see would be.
select
    max(day) as day,
    count(*) as unlisted_sessions
from sessions
group by org_id
-- guard: an organization that vanished | not bool_or(is_listed) -> false
having not bool_or(is_listed)
order by day
