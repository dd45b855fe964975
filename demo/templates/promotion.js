// What the planted failure `script-error` is: a function was renamed elsewhere, and nobody noticed.
showPromotion(document.querySelector("main"));
