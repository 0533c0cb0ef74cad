-- One row per step in the timeline of a session's analysis.
select
    day,
    session_id,
    ordinal,
    item.title,
    item.description,
    item.color,
    item.issue_id
from (
    select
        day,
        session_id,
        unnest(range(len(analysis.timeline)))::integer as ordinal,
        analysis.timeline[ordinal + 1] as item
    from _latest_analyses
) as items
where item is not null
order by day, session_id, ordinal
