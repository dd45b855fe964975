"""The sample platform that is watched in `make demo` and in the tests: shop, hotel, taxi, payments, its DNS, its CA."""
