module redis-stream-client-bench/peers/go

go 1.24
