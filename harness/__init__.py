"""The only package that knows all the others: configuration, catalogue, schedule, service, command line."""
