-- close_breaker <account>: by hand, after somebody saw to it. 1 when it was open.

return close_breaker(ARGV[1], 'asked') and 1 or 0
