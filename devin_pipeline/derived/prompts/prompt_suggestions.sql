-- One row per session whose analysis suggests a better prompt.
select
    day,
    session_id,
    analysis.suggested_prompt.original_prompt,
    analysis.suggested_prompt.suggested_prompt,
    coalesce(list_count(analysis.suggested_prompt.feedback_items), 0)::integer as feedback_items
from _latest_analyses
where
    analysis.suggested_prompt.original_prompt is not null
    or analysis.suggested_prompt.suggested_prompt is not null
    or analysis.suggested_prompt.feedback_items is not null
order by day, session_id
