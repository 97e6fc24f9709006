// The reference in Go as a host of the bench: speaks the protocol of src/host-protocol.ts on stdin and stdout.
//
// Set up as its documentation shows: one go-redis client per member, StreamExpired answered with Claim, the default
// options except unlimited retries of the reader. Claim takes the stream without a StreamAdded, so this counts only that
// it was called: the bench sees in the pending list what was taken.
package main

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"os"
	"runtime"
	"sync"
	"syscall"
	"time"

	"github.com/handcoding-labs/redis-stream-client-go/impl"
	"github.com/handcoding-labs/redis-stream-client-go/notifs"
	"github.com/redis/go-redis/v9"
)

type command struct {
	N       int    `json:"n"`
	Call    string `json:"call"`
	Member  string `json:"member"`
	Service string `json:"service"`
}

type counts struct {
	Taken           int     `json:"taken"`
	Recovered       int     `json:"recovered"`
	Expired         int     `json:"expired"`
	Claims          int     `json:"claims"`
	Disowned        int     `json:"disowned"`
	Done            int     `json:"done"`
	LastTakenAtMs   float64 `json:"lastTakenAtMs"`
	LastExpiredAtMs float64 `json:"lastExpiredAtMs"`
}

type times struct {
	TakenAtMs   []float64 `json:"takenAtMs"`
	ExpiredAtMs []float64 `json:"expiredAtMs"`
	LatencyMs   []float64 `json:"latencyMs"`
}

type streamClient interface {
	Init(ctx context.Context) (<-chan notifs.RecoverableRedisNotification, error)
	Claim(ctx context.Context, info notifs.LBSInfo) error
	Done(ctx context.Context) error
}

type member struct {
	name    string
	redis   *redis.Client
	client  streamClient
	lock    sync.Mutex
	counts  counts
	times   times
	telling bool
}

var output sync.Mutex

func main() {
	options, err := redis.ParseURL(os.Args[1])
	if err != nil {
		panic(err)
	}
	members := map[string]*member{}
	var beganAt time.Time
	var cpuAtBegin float64
	say(map[string]any{"type": "ready"})
	input := bufio.NewScanner(os.Stdin)
	for input.Scan() {
		var c command
		if err := json.Unmarshal(input.Bytes(), &c); err != nil {
			panic(err)
		}
		var result any
		var failure error
		switch c.Call {
		case "join":
			m := &member{name: c.Member, redis: redis.NewClient(options)}
			members[c.Member] = m
			failure = m.join(c.Service)
		case "leave":
			m := members[c.Member]
			failure = m.client.Done(context.Background())
			_ = m.redis.Close()
		case "times":
			m := members[c.Member]
			m.lock.Lock()
			result = m.times
			m.lock.Unlock()
		case "collect":
			result, failure = collect()
		case "measure":
			beganAt, cpuAtBegin = time.Now(), cpuMs()
		case "report":
			over := float64(time.Since(beganAt).Microseconds()) / 1000
			result = map[string]any{"cpuMs": cpuMs() - cpuAtBegin, "overMs": over, "blockMs": nil, "lateMs": nil}
		}
		answer := map[string]any{"type": "answer", "n": c.N, "result": result}
		if failure != nil {
			answer["error"] = failure.Error()
		}
		say(answer)
	}
}

func (m *member) join(service string) error {
	// The library takes its id from the environment.
	if err := os.Setenv("POD_NAME", m.name); err != nil {
		return err
	}
	retries := impl.DefaultRetryConfig()
	retries.MaxRetries = -1
	client, err := impl.NewRedisStreamClient(
		m.redis, service,
		impl.WithLogger(slog.New(slog.NewTextHandler(io.Discard, nil))),
		impl.WithForceConfigOverride(),
		impl.WithRetryConfig(retries),
	)
	if err != nil {
		return err
	}
	m.client = client
	notifications, err := client.Init(context.Background())
	if err != nil {
		return err
	}
	go m.listen(notifications)
	return nil
}

func (m *member) listen(notifications <-chan notifs.RecoverableRedisNotification) {
	for n := range notifications {
		switch n.Type {
		case notifs.StreamAdded:
			sentAt, _ := n.AdditionalInfo["sentAtMs"].(float64)
			m.taken(sentAt)
		case notifs.StreamExpired:
			m.note(func(now float64) {
				m.counts.Expired++
				m.counts.LastExpiredAtMs = now
				m.times.ExpiredAtMs = append(m.times.ExpiredAtMs, now)
			})
			go func(info notifs.LBSInfo) {
				// An error means that somebody was faster, as far as the library says.
				_ = m.client.Claim(context.Background(), info)
				m.note(func(float64) { m.counts.Claims++ })
			}(n.Payload)
		case notifs.StreamDisowned:
			m.note(func(float64) { m.counts.Disowned++ })
		}
	}
}

func (m *member) taken(sentAtMs float64) {
	m.note(func(now float64) {
		m.counts.Taken++
		m.counts.LastTakenAtMs = now
		m.times.TakenAtMs = append(m.times.TakenAtMs, now)
		if sentAtMs > 0 {
			m.times.LatencyMs = append(m.times.LatencyMs, now-sentAtMs)
		}
	})
}

// note changes the counts and tells them at most every ten milliseconds.
func (m *member) note(change func(now float64)) {
	m.lock.Lock()
	defer m.lock.Unlock()
	change(sharedNowMs())
	if m.telling {
		return
	}
	m.telling = true
	time.AfterFunc(10*time.Millisecond, func() {
		m.lock.Lock()
		m.telling = false
		line := map[string]any{"type": "counts", "member": m.name, "counts": m.counts}
		m.lock.Unlock()
		say(line)
	})
}

func say(line map[string]any) {
	output.Lock()
	defer output.Unlock()
	_ = json.NewEncoder(os.Stdout).Encode(line)
}

func collect() (any, error) {
	runtime.GC()
	var memory runtime.MemStats
	runtime.ReadMemStats(&memory)
	text, err := os.ReadFile("/proc/self/statm")
	if err != nil {
		return nil, err
	}
	var size, resident int
	if _, err := fmt.Sscan(string(text), &size, &resident); err != nil {
		return nil, err
	}
	rss := resident * os.Getpagesize()
	return map[string]any{"heapUsed": memory.HeapAlloc, "rss": rss, "handles": 0}, nil
}

func cpuMs() float64 {
	var usage syscall.Rusage
	if syscall.Getrusage(syscall.RUSAGE_SELF, &usage) != nil {
		return 0
	}
	return float64(usage.Utime.Nano()+usage.Stime.Nano()) / 1e6
}
