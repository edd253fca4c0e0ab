package main

import (
	"slices"
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
