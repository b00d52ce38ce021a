// Package watch holds margayctl's "watch": the objects of a kind as a table that goes on as they change, and with "watch
// ipam" the addresses as they are given out and come back.
//
// It is level-triggered where it can be: when the API server ends a watch, as it does every few minutes, it reads anew and
// prints what has changed meanwhile.
package watch
