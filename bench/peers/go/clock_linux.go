package main

import (
	"syscall"
	"unsafe"
)

// sharedNowMs reads the clock that process.hrtime reads: CLOCK_MONOTONIC.
func sharedNowMs() float64 {
	var at syscall.Timespec
	_, _, _ = syscall.Syscall(syscall.SYS_CLOCK_GETTIME, 1, uintptr(unsafe.Pointer(&at)), 0)
	return float64(at.Nano()) / 1e6
}
