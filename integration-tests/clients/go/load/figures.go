package main

import (
	"errors"
	"slices"
	"sync"
	"time"
)

// figures are what every verb reports of the durations that it saw.
type figures struct {
	Operations int     `json:"operations"`
	Seconds    float64 `json:"seconds"`
	Rate       float64 `json:"rate"`
	Min        float64 `json:"min_us"`
	P50        float64 `json:"p50_us"`
	P99        float64 `json:"p99_us"`
	Max        float64 `json:"max_us"`
}

// together has so many clients work side by side until the time is over; each operation counts as so many.
func together(clients, each int, seconds float64, work func(end time.Time) ([]time.Duration, error)) (any, error) {
	var mutex sync.Mutex
	var all []time.Duration
	var failed error
	var group sync.WaitGroup
	start := time.Now()
	end := start.Add(time.Duration(seconds * float64(time.Second)))
	for range clients {
		group.Add(1)
		go func() {
			defer group.Done()
			took, err := work(end)
			mutex.Lock()
			defer mutex.Unlock()
			all = append(all, took...)
			failed = errors.Join(failed, err)
		}()
	}
	group.Wait()
	if failed != nil {
		return nil, failed
	}
	return of(all, each, time.Since(start)), nil
}

// of sums up n operations for each duration (a batch counts as many).
func of(took []time.Duration, each int, whole time.Duration) figures {
	slices.Sort(took)
	at := func(share float64) float64 {
		if len(took) == 0 {
			return 0
		}
		index := min(int(share*float64(len(took))), len(took)-1)
		return float64(took[index].Nanoseconds()) / 1000
	}
	operations := len(took) * each
	return figures{
		Operations: operations, Seconds: whole.Seconds(), Rate: float64(operations) / whole.Seconds(),
		Min: at(0), P50: at(0.5), P99: at(0.99), Max: at(1),
	}
}
