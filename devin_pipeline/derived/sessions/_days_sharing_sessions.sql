-- Pairs of a day and another one that have a session in common, of the sessions looked for.
select distinct
    _looked_for.day,
    _versions.day as other_day
from _versions
inner join _looked_for using (session_id)
where _versions.day <> _looked_for.day
