"""Money in integer cents of the euro: the only form in which it is kept, added and sent."""


def show_euros(cents: int) -> str:
    """`1250` is `€12.50`."""
    return f"€{cents // 100:,}.{cents % 100:02}"
