"""What was asked and how it went: counted as it happened."""

from apexbridge_trio.hub import Hub
from apexbridge_trio.measures.measures import CHAT
from apexbridge_trio.metrics.families import Family, counts, histogram, histograms, one


def traffic_families(hub: Hub) -> list[Family]:
    """Return requests, answers of models, sockets and the loop; ``gen_ai_…`` are OpenTelemetry's names."""
    found = hub.measures
    chat = {"gen_ai_operation_name": CHAT}
    return [
        counts("apexbridge_requests", "Requests that have ended.", found.requests),
        histograms("apexbridge_request_duration_seconds", "How long requests took.", found.durations),
        histograms(
            "gen_ai_server_request_duration_seconds",
            "Chats: from the request to the end of the answer, tools and all rounds included.",
            found.answers,
            **chat,
        ),
        histograms(
            "gen_ai_server_time_to_first_token_seconds",
            "Streamed chats: from the request to the first event of the answer.",
            found.first_chunks,
            **chat,
        ),
        histograms(
            "gen_ai_client_operation_duration_seconds",
            "Calls of models by the hub: from the wait for a slot to the end of the answer.",
            found.operations,
            **chat,
        ),
        histograms(
            "gen_ai_client_token_usage",
            "Tokens of one call of a model, where its provider says.",
            found.tokens,
            **chat,
        ),
        counts("apexbridge_sockets", "Open WebSockets.", found.sockets, "gauge"),
        histogram("apexbridge_loop_lag_seconds", "How late the hub's loop was.", found.lag.histogram),
        one("apexbridge_loop_lag_max_seconds", "The most of the last minute.", found.lag.worst_s),
    ]
