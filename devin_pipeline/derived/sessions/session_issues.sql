-- One row per issue found in a session's analysis.
select
    day,
    session_id,
    ordinal,
    coalesce(item.id, item.issue_id) as issue_id,
    item.issue,
    item.impact,
    item.label
from (
    select
        day,
        session_id,
        unnest(range(len(analysis.issues)))::integer as ordinal,
        analysis.issues[ordinal + 1] as item
    from _latest_analyses
) as items
where item is not null
order by day, session_id, ordinal
