-- context_all
-- Every current value of the shared context, in no order.

return redis.call('HVALS', P .. ':context')
