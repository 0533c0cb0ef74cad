-- Pairs of a day and another one that have a session in common, of the sessions looked for.
select distinct
    looked_for.day,
    versions.day as other_day
from versions
inner join looked_for using (session_id)
where versions.day <> looked_for.day
