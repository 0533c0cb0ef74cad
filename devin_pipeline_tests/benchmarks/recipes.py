"""Questions a person would ask of the lake."""

RECIPES = {
    "ACUs by organization and month": """
        select org_id, month, sum(acus) as acus from acu_monthly group by all order by month, acus desc
    """,
    "top 20 users of the quarter": """
        select user_id, sum(acus) as acus, sum(sessions) as sessions
        from acu_daily
        where day >= (select date_trunc('quarter', max(day)) from acu_daily) and user_id is not null
        group by user_id order by acus desc limit 20
    """,
    "cost per merged pull request by repository": """
        select repository, count(*) filter (state = 'merged') as merged, sum(acus) / nullif(merged, 0) as acus_each
        from pull_requests
        where repository is not null group by repository order by merged desc
    """,
    "most frequent feedback": """
        select summary, count(*) as sessions from prompt_feedback group by summary order by sessions desc limit 20
    """,
    "text scan of prompts and feedback": """
        select day, session_id, 'prompt' as found_in from sessions where initial_user_message ilike '%deadlock%'
        union all
        select day, session_id, 'feedback' from prompt_feedback where details ilike '%deadlock%'
        order by day desc limit 20
    """,
}
